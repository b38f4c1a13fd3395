"""The trainer room: runs, datasets and artifacts; imports executors.room and all of finetuner below its api floor."""
