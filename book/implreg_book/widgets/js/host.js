import { html } from "./dom.js";

const NEAR = "600px"; // from the part of the page that is seen

/**
 * Mount an explorer wherever the page has its state, in the place of its still picture, without a
 * kernel, when the reader comes near. Where something goes wrong the picture stays.
 */
export function mount(name, render, styles) {
  const holders = document.querySelectorAll(`.explorer-state[data-explorer="${name}"]`);
  if (holders.length && !document.getElementById("explorer-styles")) {
    document.head.append(html("style", { id: "explorer-styles" }, styles));
  }
  for (const holder of holders) {
    const still = lastPictureBefore(holder);
    const state = window.explorerStates?.[holder.dataset.state];
    if (still && state) whenNear(still, () => replace(still, state, render));
  }
}

function replace(still, state, render) {
  const el = html("div");
  still.before(el);
  try {
    render({ model: new Model(state), el });
    still.classList.add("explorer-still");
  } catch (error) {
    el.remove();
    throw error;
  }
}

function whenNear(element, act) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    act();
  }, { rootMargin: NEAR });
  observer.observe(element);
}

function lastPictureBefore(element) {
  for (let place = element.previousElementSibling; place; place = place.previousElementSibling) {
    const pictures = place.matches("img") ? [place] : place.querySelectorAll("img");
    if (pictures.length) return pictures[pictures.length - 1];
  }
  return null;
}

/** What an explorer needs of a notebook's widget model: its state, and to hear of changes. */
class Model {
  constructor(state) {
    this.state = state;
    this.listeners = new Map();
    this.isPage = true;
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.#call(`change:${name}`);
    this.#call("change");
  }

  save_changes() {} // there is nobody to send them to

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((one) => one !== listener));
  }

  #call(event) {
    for (const listener of this.listeners.get(event) ?? []) listener();
  }
}
