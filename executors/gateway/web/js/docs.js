// The documentation of the REST API, from its OpenAPI document.

import { get } from "./api.js";
import { h, swap } from "./dom.js";
import { table } from "./parts.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const REST = "The Flow’s endpoints, the hub, and health";
const DEPTH = 4; // of nested schemas

const main = document.getElementById("main");
const root = h("div.page", {}, h("p.faint", {}, "Loading …"));
main.replaceChildren(root);
try {
  show(await get("/openapi.json"));
} catch (error) {
  swap(root, h("h1", {}, "REST API"), h("div.problem", { role: "alert" }, h("p", {}, error.message)));
}

function show(document) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const group = methods[method].tags?.[0] ?? REST;
      groups.set(group, [...(groups.get(group) ?? []), operation(document, path, method, methods[method])]);
    }
  }
  const wanted = h("input", {
    type: "search",
    id: "wanted",
    placeholder: "path or summary",
    oninput: () => filter(wanted.value),
  });
  swap(
    root,
    h(
      "div.head",
      {},
      h("h1", {}, "REST API"),
      h("label.field.inline", { for: "wanted" }, h("span", {}, "Filter"), wanted),
    ),
    h(
      "p.lead",
      {},
      "Requests and answers are JSON. Send the token as ",
      h("code", {}, "Authorization: token <your token>"),
      ". Errors are ",
      h("code", {}, '{"detail": "expected, got, next step", "type": "InvalidInput"}'),
      ". The same description for machines is ",
      h("code", {}, "/openapi.json"),
      document.info?.version && `, version ${document.info.version}`,
      ".",
    ),
    [...groups]
      .sort(([a], [b]) => (a === REST) - (b === REST))
      .map(([group, operations]) => h("section.group", {}, h("h2", {}, group), operations)),
  );
  filter("");
}

function filter(text) {
  const wanted = text.trim().toLowerCase();
  for (const group of root.querySelectorAll(".group")) {
    const all = [...group.querySelectorAll(".operation")];
    for (const each of all) each.hidden = !each.querySelector("summary").textContent.toLowerCase().includes(wanted);
    group.hidden = all.every((each) => each.hidden);
  }
}

function operation(document, path, method, described) {
  const body = described.requestBody?.content ?? {};
  const parameters = described.parameters ?? [];
  const answers = Object.entries(described.responses ?? {});
  return h(
    "details.operation",
    {},
    h(
      "summary",
      {},
      h(`span.method.${method}`, {}, method.toUpperCase()),
      h("code", {}, path),
      h("span.faint", {}, described.summary ?? ""),
    ),
    h(
      "div.inside",
      {},
      described.description && h("p.text", {}, described.description),
      parameters.length > 0 &&
        part(
          "Parameters",
          table(
            "Parameters",
            ["Name", "In", "Type", "Description"],
            parameters.map((each) => [
              h("span", {}, h("code", {}, each.name), each.required && h("small", {}, "required")),
              each.in,
              typeOf(document, each.schema ?? {}),
              each.description ?? each.schema?.description ?? "",
            ]),
          ),
        ),
      Object.entries(body).map(([type, { schema }]) => part(`Body, ${type}`, fields(document, schema ?? {}))),
      answers.length > 0 &&
        part(
          "Answers",
          table(
            "Answers",
            ["Status", "Description", "Body"],
            answers.map(([status, answer]) => [
              h("code", {}, status),
              answer.description ?? "",
              Object.entries(answer.content ?? {}).map(([type, { schema }]) =>
                h("span", {}, `${type} `, typeOf(document, schema ?? {})),
              ),
            ]),
          ),
        ),
    ),
  );
}

function part(title, content) {
  return h("div", {}, h("h3", {}, title), content);
}

/** Return the fields of a schema as a nested list, or the type of a schema without fields. */
function fields(document, schema, depth = 0) {
  const found = resolved(document, schema);
  const inner = found.items ? resolved(document, found.items) : found;
  if (!inner.properties || depth >= DEPTH) return depth ? undefined : h("p", {}, typeOf(document, schema));
  const required = inner.required ?? [];
  return h(
    "ul.fields",
    {},
    Object.entries(inner.properties).map(([name, each]) =>
      h(
        "li",
        {},
        h("code", {}, name),
        h(
          "small",
          {},
          typeOf(document, each),
          required.includes(name) && ", required",
          each.default !== undefined && `, default ${JSON.stringify(each.default)}`,
          limits(each),
        ),
        each.description && h("p", {}, each.description),
        fields(document, each, depth + 1),
      ),
    ),
  );
}

function limits(schema) {
  const words = {
    minimum: "at least",
    maximum: "at most",
    minItems: "minimum items",
    maxItems: "maximum items",
    maxLength: "maximum characters",
  };
  return Object.entries(words)
    .filter(([name]) => name in schema)
    .map(([name, word]) => `, ${word} ${schema[name]}`);
}

function resolved(document, schema) {
  const name = schema?.$ref?.split("/").at(-1) ?? schema?.allOf?.[0]?.$ref?.split("/").at(-1);
  return name ? (document.components?.schemas?.[name] ?? {}) : schema;
}

function typeOf(document, schema) {
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.anyOf ?? schema.oneOf)
    return (schema.anyOf ?? schema.oneOf).map((each) => typeOf(document, each)).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(document, schema.items ?? {})}`;
  if (schema.$ref ?? schema.allOf) return resolved(document, schema).title ?? "object";
  return schema.type ?? "any";
}
