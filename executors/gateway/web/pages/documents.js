// Documents of a dataset as cards.

import { h } from "../js/dom.js";
import { imageOf } from "../js/images.js";
import { tags } from "../js/parts.js";

/** Return a card for a document, or for a pair of image and caption; `change` stands for the texts while they are edited. */
export function card(document, change) {
  const parts = document.chunks?.length ? document.chunks : [document];
  const texts = parts.map((part) => part.text).filter(Boolean);
  const images = parts.filter((part) => part.blob);
  return h(
    "li.card",
    {},
    images.map((part) => imageOf(part.blob, texts[0] ?? "")),
    !change && texts.map((text) => h("p", { dir: "auto" }, text)),
    !images.length && !texts.length && h("p.faint", {}, document.uri ?? document.id),
    tags(document),
    change,
  );
}
