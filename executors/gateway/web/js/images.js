// Stored images on the page: only what begins like an image is shown, as a blob: address that dies once it is drawn.

import { h } from "./dom.js";

const BEGINNINGS = [
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF....WEBP/s],
  ["image/bmp", /^BM/],
];

/** The media type that a file's first bytes, a binary string, tell; undefined for no image. SVG can hold scripts. */
export function typeOf(head) {
  return BEGINNINGS.find(([, pattern]) => pattern.test(head))?.[0];
}

/** An <img> of base64 (or a data URI of it), or a note that there is no image. */
export function imageOf(base64, alt) {
  let content = "";
  try {
    content = atob((base64 ?? "").replace(/^data:[^,]*,/, ""));
  } catch {
    // not base64: no image
  }
  const type = typeOf(content.slice(0, 16));
  if (!type) return h("span.nothing", {}, alt || "no image");
  const bytes = Uint8Array.from(content, (letter) => letter.charCodeAt(0));
  const address = URL.createObjectURL(new Blob([bytes], { type }));
  const image = h("img", { src: address, alt, decoding: "async" });
  const forget = () => URL.revokeObjectURL(address);
  image.addEventListener("load", forget);
  image.addEventListener("error", () => {
    forget();
    image.replaceWith(h("span.nothing", {}, alt || "no image"));
  });
  return image;
}

/** Read a file that a person chose; returns its base64. Throws an Error whose message is for people. */
export async function readImage(file, most) {
  if (file.size > most)
    throw new Error(
      `An image may have ${Math.floor(most / 1e6)} MB. Got ${(file.size / 1e6).toFixed(1)} MB. Choose a smaller one.`,
    );
  const bytes = new Uint8Array(await file.arrayBuffer());
  const head = String.fromCharCode(...bytes.slice(0, 16));
  if (!typeOf(head))
    throw new Error(
      "A query must be text or a JPEG, PNG, GIF, WebP or BMP image. " +
        `Got ${file.name || "something else"}. Choose another file.`,
    );
  let content = "";
  for (let at = 0; at < bytes.length; at += 32768) content += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(content);
}
