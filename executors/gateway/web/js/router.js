// Maps addresses such as "#/runs/default/mine?tab=log" to pages. Leaving a page aborts its requests.

import { Refusal } from "./api.js";
import { announce, h } from "./dom.js";

let leave = new AbortController();
let first = true;

/** Show the page of the current address, and of each new one; `routes` are [pattern, page] pairs. */
export function start(routes, main) {
  const follow = () => show(routes, main);
  addEventListener("hashchange", follow);
  // a request whose page was left is no error, whoever waits for it
  addEventListener("unhandledrejection", (event) => event.reason?.name === "AbortError" && event.preventDefault());
  follow();
}

/** Change the address without reloading the page. */
export function remember(address) {
  history.replaceState(null, "", address);
}

async function show(routes, main) {
  leave.abort(new DOMException("The user left the page.", "AbortError"));
  leave = new AbortController();
  const { signal } = leave;
  const [path, query = ""] = location.hash.slice(2).split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  const [page, parameters] = find(routes, parts);
  const root = h("div.page");
  main.replaceChildren(root);
  mark({ compare: "runs", start: "runs", bring: "datasets", "before-after": "artifacts", marks: "search", index: "search", queries: "search" }[parts[0]] ?? parts[0] ?? "runs");
  const visit = { root, parameters, query: new URLSearchParams(query), signal };
  try {
    document.title = `${page.title(parameters)} · Open Finetuner`;
    if (!first) {
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
      announce(page.title(parameters));
    }
    first = false;
    await page.show(visit);
  } catch (error) {
    if (!signal.aborted) fail(root, error);
  }
}

function find(routes, parts) {
  for (const [pattern, page] of routes) {
    const names = pattern.split("/").filter(Boolean);
    if (names.length === parts.length && names.every((name, at) => name.startsWith(":") || name === parts[at])) {
      return [page, Object.fromEntries(names.map((name, at) => [name.slice(1), parts[at]]))];
    }
  }
  return [missing, {}];
}

const missing = {
  title: () => "Page not found",
  show: ({ root }) =>
    root.append(
      h("h1", {}, "Page not found"),
      h("p", {}, "No page has this address. ", h("a", { href: "#/runs" }, "Show the runs"), "."),
    ),
};

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function mark(section) {
  for (const link of document.querySelectorAll("#nav a, #admin")) {
    if (link.getAttribute("href") === `#/${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function fail(root, error) {
  const status = error instanceof Refusal ? error.status : undefined;
  if (status === undefined) console.error(error);
  root.append(
    h(
      "div.problem",
      { role: "alert" },
      h("h2", {}, status === 404 ? "Not found" : status === 403 ? "Not allowed" : "Cannot show this page"),
      h("p", {}, error.message),
      h("button", { onclick: () => dispatchEvent(new Event("hashchange")) }, "Try again"),
    ),
  );
}
