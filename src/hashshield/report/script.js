"use strict";
// Without this script the pictures are shown one below the other; with it, the original is cut off at the slider.
// The class is set before the body exists, so that the cards are laid out only once.
document.documentElement.classList.add("live");

function show(range) {
  range.parentElement.style.setProperty("--at", range.value + "%");
  range.setAttribute("aria-valuetext", range.value + " percent original, " + (100 - range.value) + " percent protected");
}

document.addEventListener("input", (event) => {
  if (event.target.type === "range") show(event.target);
});
// The filter hides cards and the lines of the list; it is not shown without this script.
function sift() {
  const chosen = document.querySelector(".filter input:checked");
  if (!chosen) return;
  for (const entry of document.querySelectorAll("[data-verdict]")) {
    entry.hidden = chosen.value !== "" && entry.dataset.verdict !== chosen.value;
  }
  const cards = document.querySelectorAll(".card").length, shown = document.querySelectorAll(".card:not([hidden])").length;
  document.querySelector("#shown").textContent = shown + " of " + cards + " photos shown";
}

document.addEventListener("change", (event) => {
  if (event.target.name === "verdict") sift();
});
// A link to a photo that the filter hides shows all photos again.
window.addEventListener("hashchange", () => {
  const card = document.getElementById(location.hash.slice(1));
  if (!card || !card.hidden) return;
  document.querySelector(".filter input").checked = true;
  sift();
  card.scrollIntoView();
});
// A browser may restore the values of inputs when the page is loaded again.
window.addEventListener("pageshow", () => {
  document.querySelectorAll(".compare input").forEach(show);
  sift();
});
