// Keeps pages fresh. Everything the server sends as HTML was escaped there; logs are set as text.
"use strict";

async function fetchAgain(url, as) {
  const answer = await fetch(url, { headers: { Accept: as === "json" ? "application/json" : "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return as === "json" ? answer.json() : answer.text();
}

function repeat(seconds, work) {
  const again = async () => {
    let more = true;
    try {
      if (!document.hidden) more = await work();
    } catch (error) {
      console.warn(error);
    }
    if (more !== false) setTimeout(again, seconds * 1000);
  };
  return again;
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  if ("done" in part.dataset) continue;
  const seconds = Number(part.dataset.refresh);
  const again = repeat(seconds, async () => {
    const open = part.querySelector("details")?.open;
    const text = await fetchAgain(location.href, "html");
    const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("[data-refresh]");
    part.innerHTML = fresh.innerHTML;
    if (open) part.querySelector("details")?.setAttribute("open", "");
    return !("done" in fresh.dataset);
  });
  setTimeout(again, seconds * 1000);
}

for (const log of document.querySelectorAll("[data-log]")) {
  log.scrollTop = log.scrollHeight;
  if ("done" in log.dataset) continue;
  let end = Number(log.dataset.end);
  const again = repeat(1, async () => {
    const part = await fetchAgain(`${log.dataset.log}?offset=${end}`, "json");
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    if (part.start !== end) log.textContent = "";
    log.append(part.text);
    end = part.end;
    if (atEnd) log.scrollTop = log.scrollHeight;
    return !part.ended;
  });
  setTimeout(again, 1000);
}

for (const section of document.querySelectorAll("[data-view]")) {
  const place = section.querySelector(".view");
  repeat(Number(section.dataset.seconds), async () => {
    const open = place.querySelector("details")?.open;
    place.innerHTML = (await fetchAgain(section.dataset.view, "json")).html;
    if (open) place.querySelector("details")?.setAttribute("open", "");
  })();
}
