// Names and roles that screen readers need, where the theme and docutils leave them out.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("summary:has(.toctree-toggle)").forEach((toggle) => {
    toggle.setAttribute("aria-label", "Pages below");
  });
  document.querySelectorAll("[role=list].citation-list, .footnote-list[role=list]").forEach((list) => {
    list.removeAttribute("role");
  });
  document.querySelectorAll("img.sphx-glr-single-img, img.sphx-glr-multi-img").forEach((plot) => {
    const box = document.createElement("div");
    box.className = "sphx-glr-single-img-box";
    box.tabIndex = 0;
    plot.replaceWith(box);
    box.append(plot);
  });
  document.querySelectorAll(".output_html").forEach((box) => { box.tabIndex = 0; });
  document.querySelectorAll(".sphx-glr-thumbcontainer a.reference").forEach((link) => {
    link.setAttribute("aria-label", link.textContent.trim());
  });
});
