// Administration: rooms, machine, tokens, and the audit log. The server refuses all of it below the role admin.

import { get, request, send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { ago, bytes, number } from "../js/format.js";
import { badge, empty, facts, nameOf, table } from "../js/parts.js";
import { repeat } from "../js/time.js";
import { roomDetails } from "./admin_rooms.js";
import { confirm } from "./confirm.js";

const AUDIT = [50, 200, 1000];

export default {
  title: () => "Administration",

  async show({ root, query, signal }) {
    await get("/v1/tokens", signal); // who may not see this page is told so at once
    const state = h("div.stack");
    const tokens = h("div");
    const audit = h("div");
    const many = h(
      "select",
      { id: "lines", onchange: () => loadAudit() },
      AUDIT.map((each) => h("option", { selected: String(each) === query.get("lines") }, String(each))),
    );
    root.append(
      h("h1", {}, "Administration"),
      h("section", {}, h("h2", {}, "Rooms and machine"), state, roomDetails(signal)),
      h("section", {}, h("h2", {}, "Tokens"), h("div.stack", {}, tokenForm(loadTokens), tokens)),
      h(
        "section",
        {},
        h("div.head", {}, h("h2", {}, "Audit log"), h("label.field.inline", { for: "lines" }, h("span", {}, "Lines"), many)),
        audit,
      ),
    );

    async function loadTokens() {
      const { items, locked } = await get("/v1/tokens", signal);
      const head = ["Name", "Role", "State", "Created", "Expires", "Last used", ""];
      swap(
        tokens,
        items.length
          ? table("Tokens", head, items.map((each) => tokenRow(each, loadTokens)))
          : empty(
              locked ? "The only token is the one of the environment." : "This Flow has no tokens.",
              locked
                ? "Create one for each person or program, so that the audit log can tell them apart."
                : "Everybody on this machine may use it. Make the first one on the machine itself: finetuner token create NAME --role admin. From then on, every request needs a token, this page's too.",
            ),
      );
    }

    async function loadAudit() {
      history.replaceState(null, "", `#/admin?lines=${many.value}`);
      const { items } = await get(`/v1/audit?limit=${many.value}`, signal);
      const head = ["Time", "Token", "Request", "Status"];
      swap(audit, items.length ? table("Audit log", head, items.map(auditRow)) : empty("The log is empty.", "Each request that changes something is written here."));
    }

    await Promise.all([loadTokens(), loadAudit()]);
    await repeat(10, signal, async () => {
      const [system, health] = await Promise.all([get("/v1/system", signal), healthOf(signal)]);
      swap(state, machine(system, health), rooms(health));
    });
  },
};

/** Return the answer of /healthz, which is a 503 where an encoder is down. */
async function healthOf(signal) {
  const response = await fetch("/healthz", { signal, cache: "no-store", credentials: "omit" });
  return response.json();
}

function machine(system, health) {
  const used = system.disk_total ? `${bytes(system.disk_free)} free of ${bytes(system.disk_total)}` : "";
  return [
    health.detail ? h("p.warning", {}, health.detail) : "",
    facts([
      ["State", { ok: "all works", degraded: "a part is down", unavailable: "does not encode" }[health.status] ?? health.status],
      ["Waiting runs", String(system.runs.CREATED)],
      ["Training", String(system.runs.STARTED)],
      ["Disk", used],
      ["Version", system.version],
      ["Python", system.python],
      ["System", system.system],
    ]),
  ];
}

function rooms({ rooms: found = {}, encoders = {} }) {
  const encoder = { text_encoder: encoders.text, vision_encoder: encoders.vision };
  const rows = Object.entries(found).map(([name, { up, replicas }]) => [
    h("span.name", {}, name.replaceAll("_", " ")),
    h("span", {}, badge(up === replicas ? "FINISHED" : "FAILED", up === replicas ? "up" : "down")),
    `${up} of ${replicas}`,
    encoder[name] ? (encoder[name].error ?? nameOf(String(encoder[name].artifact ?? "–"))) : "–",
    encoder[name]?.seconds !== undefined ? `${number(encoder[name].seconds)} s` : "–",
  ]);
  return table("Rooms", ["Room", "State", "Replicas", "Model", "Answer"], rows);
}

function tokenRow(token, reload) {
  const said = h("span.wrong", { role: "alert" });
  async function revoke() {
    const sure = await confirm(`Revoke ${token.name}?`, ["Whoever uses it is refused from now on. It cannot be undone."], "Revoke", "Keep");
    if (!sure) return;
    try {
      await send(`/v1/tokens/${encodeURIComponent(token.name)}/revoke`);
      announce(`Token ${token.name} is revoked`);
      await reload();
    } catch (error) {
      swap(said, error.message);
    }
  }
  return [
    h("span.name", {}, token.name),
    token.role,
    token.state,
    ago(token.created_at),
    token.expires_at ? h("span.whole", {}, new Date(token.expires_at * 1000).toLocaleDateString("en-CA")) : "never",
    token.last_used ? ago(token.last_used) : "–",
    token.state === "revoked" ? "" : h("span", {}, h("button", { id: `revoke-${token.name}`, onclick: revoke, "aria-label": `Revoke ${token.name}` }, "Revoke"), said),
  ];
}

function tokenForm(reload) {
  const name = h("input", { id: "token-name", required: true, maxlength: 128, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" });
  const role = h("select", { id: "token-role" }, ["read", "write", "admin"].map((each) => h("option", {}, each)));
  const days = h("input", { id: "token-days", type: "number", min: 1, max: 3650, placeholder: "never" });
  const said = h("div.said", { role: "status" });
  async function create() {
    try {
      const body = { name: name.value.trim(), role: role.value, days: days.value ? +days.value : null };
      const made = await request("/v1/tokens", { method: "POST", body: JSON.stringify(body), read: (response) => response.json() });
      swap(said, h("p", {}, `The token of ${made.name}. Copy it now: nobody can show it again.`), h("pre.log", { tabindex: 0, role: "region", "aria-label": "New token" }, made.secret));
      name.value = "";
      await reload();
    } catch (error) {
      swap(said, h("p.wrong", {}, error.message));
    }
  }
  const field = (label, element) => h("label.field", { for: element.id }, h("span", {}, label), element);
  return h(
    "form.search",
    { onsubmit: (event) => (event.preventDefault(), create()) },
    h("div.options", {}, field("Name of the person or program", name), field("Role", role), field("Days until it expires", days), h("button.primary", { type: "submit" }, "Create token")),
    said,
  );
}

function auditRow(line) {
  const what = line.wrong_tokens ? `${line.wrong_tokens} wrong tokens from ${line.address}` : line.refused ? `${line.refused} refused requests` : [line.request, line.endpoint].filter(Boolean).join(" ");
  return [ago(line.time), line.token || "–", h("code", {}, what), line.status === undefined ? "–" : String(line.status)];
}
