// Two things that neither HTML nor CSS can do. Everything on a page works without them.

// What scrolls sideways can be reached by keyboard, and only while it does.
function letKeyboardScroll() {
  for (const box of document.querySelectorAll(".bd-article :is(.wide, div.math, pre, .output)")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
letKeyboardScroll();
addEventListener("load", letKeyboardScroll);
addEventListener("resize", letKeyboardScroll);
for (const fold of document.querySelectorAll(".bd-article details")) {
  fold.addEventListener("toggle", letKeyboardScroll);
}

// Paper has no folds.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll(".bd-article details:not([open], .hide)")];
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
