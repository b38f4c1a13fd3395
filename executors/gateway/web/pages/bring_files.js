// Files that a user drops or chooses: one file as it stands, or several, and folders, as a zip.

import { h } from "../js/dom.js";
import { zipOf } from "../js/zip.js";

const READ = [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".json", ".zip", ".tar", ".tar.gz", ".tgz"];
const IMAGE = /\.(jpe?g|png|gif|webp|bmp|tiff?)$/i;

/** Return an element to drop files on; `onFiles([{name, file}, ...])` follows. */
export function dropZone(onFiles) {
  const give = (list) => list.length && onFiles([...list].map((file) => ({ name: file.webkitRelativePath || file.name, file })));
  const files = h("input.unseen", { type: "file", id: "files", multiple: true, onchange: () => give(files.files) });
  const folder = h("input.unseen", { type: "file", id: "folder", webkitdirectory: true, onchange: () => give(folder.files) });
  const element = h(
    "div.drop",
    {},
    h("p", {}, h("strong", {}, "Drop a zip, a CSV, a parquet or jsonl file, or a folder of images here")),
    h("div.buttons", {}, files, h("label.button", { for: "files" }, "Choose files"), folder, h("label.button", { for: "folder" }, "Choose a folder")),
    h("p.faint", {}, "A table names images that lie beside it: drop them together, or as one folder or zip. Images without a table have their captions in text files of the same name (dress.jpg, dress.txt), or one folder for each label."),
  );
  element.addEventListener("dragover", (event) => (event.preventDefault(), element.classList.add("over")));
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    element.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    const loose = [...event.dataTransfer.files];
    const found = entries.some((entry) => entry?.isDirectory) ? (await Promise.all(entries.filter(Boolean).map(walked))).flat() : loose.map((file) => ({ name: file.name, file }));
    if (found.length) onFiles(found);
  });
  return element;
}

/** Return {name, blob, mark} of the file to send; `mark` tells it from others. Throws an Error for the user. */
export async function fileToSend(chosen, onProgress, signal) {
  const kept = chosen.filter(({ name }) => !name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
  if (!kept.length) throw new Error("The folder must hold files. Got none that can be read. Choose another.");
  const [{ name, file }] = kept;
  if (kept.length === 1 && READ.some((ending) => name.toLowerCase().endsWith(ending))) {
    if (!file.size) throw new Error(`The file must have content. ${name} is empty. Choose another.`);
    return { name, blob: file, mark: [name, file.size, file.lastModified].join("/") };
  }
  if (kept.length === 1 && !IMAGE.test(name)) throw new Error(`A file must end in ${READ.join(", ")}. Got ${name}. Choose another, or a folder.`);
  const blob = await zipOf(kept, onProgress, signal);
  const top = name.includes("/") ? name.split("/")[0] : "images";
  return { name: `${top}.zip`, blob, mark: [top, blob.size, Math.max(...kept.map((each) => each.file.lastModified))].join("/") };
}

async function walked(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) return [{ name, file: await new Promise((done, fail) => entry.file(done, fail)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail)); // up to 100 at a time
    if (!some.length) return found;
    for (const each of some) found.push(...(await walked(each)));
  }
}
