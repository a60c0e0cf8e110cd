/** A new HTML element with attributes, properties (functions) and children. */
export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** A new SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let count = 0;

/** An id that no other element of the page has. */
export function newId() {
  count += 1;
  return `implreg-${count}`;
}

/** Call `draw` once before the next frame, however often the result is called until then. */
export function oncePerFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Whether the reader has asked for less motion. */
export function prefersStill() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}
