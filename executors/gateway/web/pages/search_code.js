// A search as Python code and as a command for a shell. Every text in them is quoted, whatever it holds.

import { code, python, quoted } from "../js/code.js";
import { h } from "../js/dom.js";

const IMAGE = "image.jpg"; // stands for an image, which is too long for code

/** Return the code of a request for /v1/search. */
export function searchCode(body) {
  const pictured = body.queries?.[0].blob !== undefined;
  const more = pictured && h("p.faint", {}, `Your image is the file ${IMAGE} there.`);
  return h("details.codes", {}, h("summary", {}, "Copy as code"), more, code("As Python", asPython(body, pictured)), code("As a command", asCommand(body, pictured)));
}

function asPython({ queries, artifact, positives, negatives, ...others }, pictured) {
  const ids = (examples) => examples?.map(({ id }) => id);
  const named = { ...(artifact === "live" ? {} : { artifact }), positives: ids(positives), negatives: ids(negatives), ...others };
  const query = queries && (pictured ? `Document(blob=Path(${python(IMAGE)}).read_bytes())` : python(queries[0].text));
  const given = Object.entries(named).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${python(value)}`);
  return [
    ...(pictured ? ["from pathlib import Path", ""] : []),
    "import finetuner",
    ...(pictured ? ["from finetuner import Document"] : []),
    "",
    "finetuner.login()",
    "found = finetuner.search(",
    ...[query, ...given].filter(Boolean).map((line) => `    ${line},`),
    ")[0]",
    "for match in found.matches:",
    '    print(match.id, match.scores["cosine"].value)',
    "",
  ].join("\n");
}

function asCommand(body, pictured) {
  const head = `curl ${quoted(`${location.origin}/v1/search`)} -H 'Content-Type: application/json' -H "Authorization: token $FINETUNER_TOKEN"`;
  if (!pictured) return `${head} -d ${quoted(JSON.stringify(body))}\n`;
  const marker = "IMAGE OF THE QUERY"; // replaced after the escapes; the only text that the shell fills in
  const escaped = JSON.stringify({ ...body, queries: [{ blob: marker }] }).replace(/[\\$`]/g, "\\$&");
  return `${head} --data-binary @- <<END\n${escaped.replace(marker, () => `$(base64 -w0 ${IMAGE})`)}\nEND\n`;
}
