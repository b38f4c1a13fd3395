// The login page. The server checks a token before the page stores it.

import { request } from "../js/api.js";
import { h, swap } from "../js/dom.js";
import { logIn } from "../js/session.js";

export default {
  title: () => "Log in",

  show({ root, query }) {
    const field = h("input", {
      type: "password",
      id: "token",
      autocomplete: "current-password",
      spellcheck: "false",
      required: true,
    });
    const kept = h("input", { type: "checkbox", id: "remember", role: "switch" });
    const said = h("p.wrong", { role: "alert" });
    const button = h("button.primary", { type: "submit" }, "Log in");
    root.append(
      h(
        "form.login",
        { onsubmit: (event) => (event.preventDefault(), enter()) },
        h("h1", {}, "Log in"),
        h("p", {}, "This Flow needs a token. Its owner creates one with ", h("code", {}, "finetuner token create"), "."),
        h("label.field", { for: "token" }, h("span", {}, "Token"), field),
        h("label.switch", { for: "remember" }, kept, h("span", {}, "Remember on this machine")),
        said,
        button,
        h(
          "p.faint",
          {},
          "Without this, the token stays in this tab until you close it. With it, every tab of this browser has it " +
            "until you log out: do not use it on a machine that you share.",
        ),
      ),
    );
    field.focus();

    async function enter() {
      const credential = field.value.trim();
      if (!/^[!-~]+$/.test(credential)) return swap(said, "A token has only visible ASCII characters, without spaces.");
      button.disabled = true;
      swap(said);
      try {
        await request("/v1/runs?size=1", { credential, again: true });
        logIn(credential, kept.checked);
        const next = query.get("next") ?? "";
        if (next === "/docs") location.assign(next);
        else location.hash = next.startsWith("#/") && !next.startsWith("#/login") ? next : "#/runs";
      } catch (error) {
        swap(said, error.message);
        field.select();
      }
      button.disabled = false;
    }
  },
};
