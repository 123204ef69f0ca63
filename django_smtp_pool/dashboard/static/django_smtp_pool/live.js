/* Refreshes the page of the pools. Without this script, the page has a link to reload it. */
"use strict";

(() => {
  const EVERY = 2000; // milliseconds
  const live = document.getElementById("smtp-pools-live");
  const pause = document.getElementById("smtp-pools-pause");
  const state = document.getElementById("smtp-pools-state");
  let paused = false;
  let shown = "";
  let switched = ""; // what to say after another process has taken over

  /* The status is read out by screen readers, so it changes only if there is news. */
  function say(text) {
    if (text !== shown) {
      state.textContent = shown = text;
    }
  }

  /* Nobody loses the place at which the keyboard is, or the words that are being copied. */
  function isInUse() {
    const selection = document.getSelection();
    return !selection.isCollapsed && live.contains(selection.anchorNode);
  }

  function replace(html) {
    const focused = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = html;
    const again = focused && document.getElementById(focused);
    if (again) {
      again.focus({ preventScroll: true });
    }
  }

  async function refresh() {
    const process = document.getElementById("smtp-pools").dataset.process;
    const answer = await fetch(`${location.pathname}?process=${process}&part=1`, { credentials: "same-origin" });
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const html = await answer.text();
    if (!html.trimStart().startsWith('<div id="smtp-pools"')) {
      location.reload(); // the session has ended: this was the page to log in
      return;
    }
    if (!paused && !isInUse()) {
      replace(html);
      const now = document.getElementById("smtp-pools").dataset.process;
      if (now !== process) {
        switched = `Process ${process.split("-")[0]} no longer answers. This is process ${now.split("-")[0]}.`;
      }
    }
    say(paused ? shown : switched);
  }

  async function tick() {
    if (!paused && !document.hidden && !isInUse()) {
      try {
        await refresh();
      } catch {
        say("The site does not answer. Trying again.");
      }
    }
    setTimeout(tick, EVERY);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Continue" : "Pause";
    say(paused ? "Paused." : switched);
  });
  pause.hidden = false;
  document.getElementById("smtp-pools-reload").hidden = true;
  setTimeout(tick, EVERY);
})();
