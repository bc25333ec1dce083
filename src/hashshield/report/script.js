"use strict";
// Without this script every picture is shown one below the other; with it, the original is cut off at the slider.
// It runs before there is a body: cards that are out of sight are not styled a second time for a screen reader.
document.documentElement.classList.add("live");

function show(range) {
  range.parentElement.style.setProperty("--at", range.value + "%");
  range.setAttribute("aria-valuetext", range.value + " percent original, " + (100 - range.value) + " percent protected");
}

document.addEventListener("input", (event) => {
  if (event.target.type === "range") show(event.target);
});
// A browser may bring values back when the page is loaded again.
window.addEventListener("pageshow", () => document.querySelectorAll(".compare input").forEach(show));
