// DOM elements. Stored values become text or attribute values, never markup.

/**
 * Return an element: h("p.note", {id: "x"}, "text", another).
 *
 * `on...` properties are listeners, and true is an attribute without a value. Properties and children that are false,
 * null or undefined are left out.
 */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElement(name), classes, properties, children);
}

/** Return an SVG element, like `h`. */
export function svg(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), classes, properties, children);
}

function fill(element, classes, properties, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace the children of `element`. The focus moves to the new element with the same id or link. */
export function swap(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const mark =
    focused &&
    (focused.id
      ? `#${CSS.escape(focused.id)}`
      : focused.getAttribute("href") && `[href="${CSS.escape(focused.getAttribute("href"))}"]`);
  element.replaceChildren(...shown(children));
  if (mark) element.querySelector(mark)?.focus({ preventScroll: true });
}

/** Announce text to screen readers, without moving the focus. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Return the address of a page, path("runs", experiment, name), with every part encoded. */
export function path(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}
