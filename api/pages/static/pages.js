// Small comforts; every page works without them.
(() => {
  "use strict";

  const typing = (at) => at.matches("input, textarea, select, [contenteditable]");

  // Keys: / to the filters, n for a new run, j and k through a list, Ctrl+Enter sends a form.
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && at.form) {
      event.preventDefault();
      at.form.requestSubmit();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(at)) return;
    if (event.key === "/") {
      const first = document.querySelector(".filters input, .filters select");
      if (first) {
        event.preventDefault();
        first.focus();
      }
    } else if (event.key === "n" && document.querySelector("header.top")) {
      location.assign("/new");
    } else if (event.key === "j" || event.key === "k") {
      const links = [...document.querySelectorAll(".list .what a")];
      const now = links.indexOf(document.activeElement);
      const next = links[event.key === "j" ? now + 1 : Math.max(now - 1, 0)];
      if (next) next.focus();
    }
  });

  // What is there for tasks alone is folded away while code is chosen.
  const kinds = document.querySelectorAll('input[name="kind"]');
  const fold = () => {
    const task = document.querySelector('input[name="kind"][value="task"]').checked;
    for (const part of document.querySelectorAll(".task-only")) part.hidden = !task;
  };
  if (kinds.length) {
    kinds.forEach((kind) => kind.addEventListener("change", fold));
    fold();
  }

  // A filter counts as soon as it is chosen.
  for (const choice of document.querySelectorAll(".filters select")) {
    choice.addEventListener("change", () => choice.form.requestSubmit());
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    }
  });
})();
