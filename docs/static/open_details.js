// A link to something in a box opens the box.
function openBox() {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const box = place && place.closest("details");
  if (box && !box.open) {
    box.open = true;
    place.scrollIntoView();
  }
}
addEventListener("hashchange", openBox);
addEventListener("DOMContentLoaded", openBox);
