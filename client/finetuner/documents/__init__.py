"""DocArray documents: pairs, labelled images, images, URIs and streams; imports only contract and exceptions."""
