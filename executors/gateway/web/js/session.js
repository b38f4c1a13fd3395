// The token: of this tab, or remembered on this machine where the user asks for that.

const KEY = "finetuner-token";

/** Return the token, null before the login. */
export function token() {
  return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
}

/** Store a token, for this tab or for this machine. */
export function logIn(value, remembered = false) {
  logOut();
  (remembered ? localStorage : sessionStorage).setItem(KEY, value);
  dispatchEvent(new Event("session"));
}

/** Remove the token, also from this machine: other tabs then ask for one. */
export function logOut() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  dispatchEvent(new Event("session"));
}

/** Remove a token that the server refused, and show the login page, which returns here. */
export function demandLogin() {
  logOut();
  if (location.pathname !== "/") location.assign(`/#/login?next=${encodeURIComponent(location.pathname)}`);
  else if (!location.hash.startsWith("#/login"))
    location.hash = `#/login?next=${encodeURIComponent(location.hash || "#/runs")}`;
}

addEventListener("storage", ({ key }) => key === KEY && dispatchEvent(new Event("session")));
