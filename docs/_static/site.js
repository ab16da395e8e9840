// Names and roles that screen readers need, where the theme and docutils leave them out.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("summary:has(.toctree-toggle)").forEach((toggle) => {
    toggle.setAttribute("aria-label", "Pages below");
  });
  document.querySelectorAll("[role=list].citation-list, .footnote-list[role=list]").forEach((list) => {
    list.removeAttribute("role");
  });
  document.querySelectorAll(".sphx-glr-thumbcontainer a.reference").forEach((link) => {
    link.setAttribute("aria-label", link.textContent.trim());
  });
});
