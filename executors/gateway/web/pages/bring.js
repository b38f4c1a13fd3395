// Bring data: choose files, send them, look at what was understood, and store it as a dataset.

import { get, send } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { bytes, number } from "../js/format.js";
import { crumbs, facts, labelled, table } from "../js/parts.js";
import { remember } from "../js/router.js";
import { arrived, sendFile, throwAway } from "../js/tus.js";
import { dropZone, fileToSend } from "./bring_files.js";
import { card } from "./documents.js";

const KINDS = [
  ["pairs", "images with captions"],
  ["labelled", "images with labels"],
];
const COLUMNS = ["image", "text", "label"];

export default {
  title: () => "Bring data",

  async show({ root, query, signal }) {
    const known = new Set((await get("/v1/datasets", signal)).items.map((each) => each.name));
    let chosen; // {name, blob, mark}
    let upload = query.get("upload");
    const name = h("input", { id: "dataset", required: true, maxlength: 128, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", value: query.get("name") ?? "", oninput: draw });
    const kind = h("select", { id: "as" }, KINDS.map(([value, text]) => h("option", { value, selected: value === query.get("as") }, text)));
    const columns = COLUMNS.map((content) => h("input", { id: `column-${content}`, maxlength: 200, placeholder: "found by its name", value: query.get(content) ?? "" }));
    const append = h("input", { type: "checkbox", id: "append", role: "switch", checked: query.has("append"), onchange: draw });
    const behind = h("label.switch", { for: "append" }, append, h("span", {}, "Add its rows to the dataset that has this name"));
    const file = h("p", { role: "status" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Sent", hidden: true });
    const said = h("p.wrong", { role: "alert" });
    const button = h("button.primary", { type: "submit", id: "send" });
    const pause = h("button", { type: "button", id: "pause", hidden: true, onclick: () => sending?.abort() }, "Pause");
    const understood = h("div.stack");
    let sending;
    const form = h(
      "form.search.start",
      { onsubmit: (event) => (event.preventDefault(), go()) },
      file,
      h(
        "div.options",
        {},
        labelled("Name of the dataset", name, "Letters, digits, '.', '_' and '-'."),
        labelled("What it holds", kind, "Captions train search by text, labels search by image."),
        behind,
      ),
      h("details", { open: columns.some((each) => each.value) }, h("summary", {}, "Columns of a table"), h("div.options", {}, columns.map((each, at) => labelled(`Column of the ${COLUMNS[at] === "text" ? "caption" : COLUMNS[at]}`, each)))),
      h("div.actions", {}, button, pause, bar),
      said,
    );
    root.append(h("div.top", {}, crumbs(["Datasets", path("datasets")]), h("h1", {}, "Bring data")), dropZone(choose), form, understood);
    signal.addEventListener("abort", () => sending?.abort());

    const replaces = h("p.warning");
    function draw() {
      behind.hidden = !known.has(name.value.trim());
      replaces.hidden = behind.hidden || append.checked;
      swap(replaces, `There is a dataset ${name.value.trim()} already. This one replaces it.`);
      form.hidden = !chosen && !upload;
      swap(button, upload ? "Read again" : "Send and look");
      button.classList.toggle("primary", !upload);
    }

    async function choose(files) {
      swap(said);
      swap(understood);
      try {
        bar.hidden = false;
        form.hidden = false;
        swap(file, `Reading ${number(files.length)} ${files.length === 1 ? "file" : "files"} …`);
        chosen = await fileToSend(files, (share) => (bar.value = share), signal);
        upload = undefined;
        swap(file, h("strong", {}, chosen.name), `, ${bytes(chosen.blob.size)}`);
        name.value ||= chosen.name.replace(/(\.tar)?\.[^.]*$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 128);
        draw();
        button.focus();
      } catch (error) {
        chosen = undefined;
        swap(file);
        swap(said, error.message);
      }
      bar.hidden = true;
      bar.value = 0;
    }

    const appends = () => append.checked && known.has(name.value.trim());
    const asked = () => {
      const named = Object.fromEntries(COLUMNS.map((content, at) => [content, columns[at].value.trim()]).filter(([, value]) => value));
      return { as: kind.value, columns: Object.keys(named).length ? named : null };
    };

    function keep() {
      const set = Object.entries({ upload, name: name.value.trim(), as: kind.value, append: appends() && "1", ...asked().columns }).filter(([, value]) => value);
      remember(`#/bring?${new URLSearchParams(set)}`);
    }

    async function go() {
      swap(said);
      swap(understood);
      button.disabled = true;
      try {
        if (!upload) {
          sending = new AbortController();
          bar.hidden = pause.hidden = false;
          const metadata = { dataset: name.value.trim(), filename: chosen.name, as: kind.value, on_error: "skip" };
          upload = await sendFile(chosen.blob, metadata, `${metadata.dataset}/${chosen.mark}`, progress, sending.signal);
        }
        keep();
        draw();
        await look();
      } catch (error) {
        if (signal.aborted) return;
        swap(said, sending?.signal.aborted ? "Paused. What has arrived stays for a day: send again to go on." : error.message);
      } finally {
        bar.hidden = pause.hidden = true;
        button.disabled = false;
      }
    }

    function progress(offset) {
      bar.value = offset / chosen.blob.size;
      swap(file, h("strong", {}, chosen.name), `, ${bytes(offset)} of ${bytes(chosen.blob.size)} sent`);
    }

    /** Ask what the server understands, and give the dataset its present name. */
    const understand = () => send(`/v1/uploads/${encodeURIComponent(upload)}/preview`, { ...asked(), dataset: name.value.trim(), append: appends() });

    async function look() {
      swap(file, "The server reads the file …");
      try {
        const found = await understand();
        swap(file, `${number(found.documents)} documents can be stored.`);
        announce(file.textContent);
        swap(understood, preview(found));
      } catch (error) {
        swap(file, "The file is here, and not understood yet. Correct what it holds or the columns, and read it again.");
        form.querySelector("details").open = true;
        throw error;
      }
    }

    function preview(found) {
      const failed = h("p.wrong", { role: "alert" });
      const store = h("button.primary", { type: "button", id: "store", onclick: () => act(keepIt) }, `Store ${number(found.documents)} documents`);
      async function keepIt() {
        if (!form.reportValidity()) throw new Error("The dataset needs a name.");
        await understand(); // the name may have changed; nothing is read twice
        const made = await send(`/v1/uploads/${encodeURIComponent(upload)}/complete`);
        location.hash = path("datasets", made.name) + (made.before ? `?before=${made.before}` : "");
      }
      async function drop() {
        await throwAway(upload);
        upload = chosen = undefined;
        name.value = "";
        remember("#/bring");
        swap(file);
        swap(understood);
        draw();
        document.getElementById("files").focus();
      }
      async function act(what) {
        store.disabled = true;
        try {
          await what();
        } catch (error) {
          swap(failed, error.message);
          store.disabled = false;
        }
      }
      const lines = found.left_out.flatMap((text) => text.split("\n")); // the rows of a warning are indented
      const faults = lines.filter((line) => /^\s/.test(line));
      return h(
        "section.stack",
        { "aria-label": "What was understood" },
        h("h2", {}, "What was understood"),
        facts(Object.entries(found.kinds).map(([each, count]) => [each, number(count)])),
        found.notes.map((note) => h("p.faint", {}, note)),
        lines.filter((line) => !faults.includes(line)).map((line) => h("p.warning", {}, line)),
        faults.length > 0 && table("Left out", ["Where", "Fault"], faults.map(fault)),
        replaces,
        h("div.actions", {}, store, h("button", { type: "button", onclick: () => act(drop) }, "Throw away"), failed),
        h("h3", {}, found.first.length < found.documents ? `The first ${found.first.length}` : "All of it"),
        h("ul.grid", { "aria-label": "First documents" }, found.first.map((each) => card(each))),
      );
    }

    draw();
    if (!upload) return;
    button.disabled = true;
    const here = await arrived(upload, signal);
    if (here === undefined) {
      upload = undefined;
      draw();
      swap(said, "This upload is gone: it was stored, thrown away, or older than a day. Choose the file again.");
      form.hidden = false;
      button.disabled = true;
      return;
    }
    await go();
  },
};

/** Return a row of "  line 7: no such file". */
function fault(text) {
  const [, where, what] = /^\s+(.{1,200}?): (.*)$/s.exec(text) ?? [null, "–", text.trim()];
  return [where, h("span", {}, what)];
}
