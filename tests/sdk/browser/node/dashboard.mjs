// Watches pinring's dashboard in Debian's Chromium.
//
// Usage: dashboard.mjs URL light|dark WIDTH HEIGHT [SCREENSHOT]. Prints a line of JSON whenever what a person sees of the
// backends has changed, {"backends": {NAME: {"state": …, "colour": …}}, "title": …, "wide": …}, and one for each complaint
// of the browser, {"complaint": …}. Ends with its standard input, and then makes the screenshot.

import { once } from 'node:events';
import { chromium } from 'playwright-core';

const [url, colorScheme, width, height, screenshot] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));

/** Within the page. */
function seen() {
  const backends = {};
  for (const row of document.querySelectorAll('#backends tbody tr')) {
    const pill = row.querySelector('.pill');
    backends[row.cells[0].textContent] = { state: pill.textContent, colour: getComputedStyle(pill).color };
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  return { backends, title: document.title, wide: scrollWidth > clientWidth };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox']
});
const page = await browser.newPage({ colorScheme, viewport: { width: Number(width), height: Number(height) } });
page.on('console', (message) => print({ complaint: message.text() }));
page.on('pageerror', (error) => print({ complaint: `${error}` }));
page.on('requestfailed', (request) => print({ complaint: `${request.url()} ${request.failure().errorText}` }));
await page.goto(url);

const over = once(process.stdin.resume(), 'end');
let ended = false;
over.then(() => (ended = true));
for (let last = ''; !ended; await new Promise((resolve) => setTimeout(resolve, 50))) {
  const now = await page.evaluate(seen);
  if (JSON.stringify(now) !== last) print(now);
  last = JSON.stringify(now);
}
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
process.exit(0);
