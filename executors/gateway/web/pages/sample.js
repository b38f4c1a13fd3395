// Sample data for people who look around: drawn garments with captions.

import { send } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";

const NAME = "sample-garments";

/** Return the button that makes a dataset of sample data and shows it. */
export function sampleButton() {
  const said = h("span.wrong", { role: "alert" });
  async function make() {
    button.disabled = true;
    swap(button, "Drawing garments …");
    try {
      await send(`/v1/datasets/${NAME}/sample`);
      location.hash = path("datasets", NAME);
    } catch (error) {
      if (error.status === 409) return void (location.hash = path("datasets", NAME));
      swap(said, error.message);
      swap(button, "Try it with sample data");
      button.disabled = false;
    }
  }
  const button = h("button", { id: "sample", onclick: make }, "Try it with sample data");
  return h("span.actions", {}, button, said);
}
