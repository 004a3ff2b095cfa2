// Renews the parts of a page that is looked at. Without it the page works, and a reload renews it.
(function () {
  "use strict";
  var main = document.querySelector("[data-live]"), note = document.getElementById("live");
  if (!main || !window.EventSource) return;

  // busy: somebody types there, or has marked something.
  function busy(part) {
    var active = document.activeElement, marked = window.getSelection();
    return part.contains(active) && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName) ||
      marked && !marked.isCollapsed && part.contains(marked.anchorNode);
  }

  function renew(id, html) {
    var old = document.getElementById(id);
    if (old && !old.hasAttribute("data-part")) return;
    if (old && busy(old)) return;
    var template = document.createElement("template");
    template.innerHTML = html;
    var part = template.content.firstElementChild;
    if (!part || part.id !== id) return;
    if (!old) {
      main.insertBefore(part, note);
      return;
    }
    var scrolled = Array.prototype.map.call(old.querySelectorAll(".scroll"), function (e) { return e.scrollLeft; });
    var active = document.activeElement, href = old.contains(active) ? active.getAttribute("href") : null;
    var region = old.contains(active) && active.classList.contains("scroll") ? active.getAttribute("aria-label") : null;
    // The element itself stays: who hears the page is told of what changes in it.
    old.replaceChildren.apply(old, Array.prototype.slice.call(part.childNodes));
    Array.prototype.forEach.call(old.querySelectorAll(".scroll"), function (e, i) { e.scrollLeft = scrolled[i] || 0; });
    Array.prototype.some.call(old.querySelectorAll("a, .scroll"), function (e) {
      var same = href !== null ? e.getAttribute("href") === href : region !== null && e.getAttribute("aria-label") === region;
      if (same) e.focus({ preventScroll: true });
      return same;
    });
  }

  function say(text, stale) {
    if (!note) return;
    note.textContent = text;
    note.className = stale ? "hint stale" : "hint";
  }

  note && note.removeAttribute("role"); // the time changes every second
  var source = new EventSource("/live" + location.pathname + location.search), last = "";
  source.onmessage = function (event) {
    var message = JSON.parse(event.data);
    if (message.gone) {
      say("Not renewed: " + message.gone, true);
      return;
    }
    Object.keys(message.parts).forEach(function (id) { renew(id, message.parts[id]); });
    last = message.time;
    say("Renewed by itself, last at " + last + " UTC.", false);
  };
  source.onerror = function () { say("Not renewed since " + (last || "it was opened") + ": the control plane does not answer. It is tried again.", true); };
})();
