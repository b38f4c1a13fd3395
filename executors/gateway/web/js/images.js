// Stored images. Only files that start like an image are shown, by a blob: URL that is revoked once it is loaded.

import { h } from "./dom.js";

const SIGNATURES = [
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF....WEBP/s],
  ["image/bmp", /^BM/],
];

/** Return the media type for a file's first bytes, a binary string; undefined for no image. SVG may hold scripts. */
export function typeOf(head) {
  return SIGNATURES.find(([, pattern]) => pattern.test(head))?.[0];
}

/** Return an <img> for base64 or a data: URI, or a note if it is no image. */
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
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  const image = h("img", { src: url, alt, decoding: "async" });
  const revoke = () => URL.revokeObjectURL(url);
  image.addEventListener("load", revoke);
  image.addEventListener("error", () => {
    revoke();
    image.replaceWith(h("span.nothing", {}, alt || "no image"));
  });
  return image;
}

/** Return a chosen file in base64. Throws an Error with a message for the user. */
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
