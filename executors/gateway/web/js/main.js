// Entry point: the pages and their addresses.

import admin from "../pages/admin.js";
import artifact from "../pages/artifact.js";
import artifacts from "../pages/artifacts.js";
import beforeAfter from "../pages/before_after.js";
import bring from "../pages/bring.js";
import compare from "../pages/compare.js";
import dataset from "../pages/dataset.js";
import datasets from "../pages/datasets.js";
import index from "../pages/index.js";
import login from "../pages/login.js";
import marks from "../pages/marks.js";
import queries from "../pages/queries.js";
import run from "../pages/run.js";
import runs from "../pages/runs.js";
import search from "../pages/search.js";
import startPage from "../pages/start.js";
import { demandLogin, token } from "./session.js";
import { start } from "./router.js";

const main = document.getElementById("main");
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // "#main" would be the address of another page
  main.focus();
});

const button = document.getElementById("logout");
const showSession = () => button.toggleAttribute("hidden", !token());
addEventListener("session", showSession);
button.addEventListener("click", demandLogin);
showSession();

start(
  [
    ["", runs],
    ["runs", runs],
    ["compare", compare],
    ["runs/:experiment/:name", run],
    ["before-after", beforeAfter],
    ["bring", bring],
    ["datasets", datasets],
    ["datasets/:name", dataset],
    ["artifacts", artifacts],
    ["artifacts/:id", artifact],
    ["search", search],
    ["index", index],
    ["marks", marks],
    ["queries", queries],
    ["admin", admin],
    ["start", startPage],
    ["login", login],
  ],
  main,
);
