// Opens a page in Debian's Chromium, and has one of pages/*.mjs run in it.
//
// Usage: visit.mjs PROGRAM HOST PORT (0: a free one). The page is http://HOST:PORT/, and HOST leads to this machine,
// whatever it is. Once the page is there and nobody serves it any more, prints {"origin": …}; a line with the JSON
// arguments of the program's `run` on standard input is answered by what that returned.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [program, host, port] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));
const here = (path) => new URL(path, import.meta.url).pathname;

const PAGE = '<!doctype html><link rel="icon" href="data:,"><script src="/program.js"></script>';

async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [here(`pages/${program}.mjs`)],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'program',
    nodePaths: [here('../../v2/node/node_modules')]
  });
  return outputFiles[0].text;
}

async function serve(script) {
  const server = createServer((request, response) => {
    const isPage = request.url === '/';
    response.writeHead(200, { 'content-type': isPage ? 'text/html' : 'text/javascript' });
    response.end(isPage ? PAGE : script);
  });
  server.listen(Number(port), '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function open(browser) {
  const server = await serve(await bundle());
  const origin = `http://${host}:${server.address().port}`;
  const page = await browser.newPage();
  page.on('console', (message) => console.error(message.text()));
  page.on('pageerror', (error) => console.error(error));
  await page.goto(`${origin}/`);
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  print({ origin });
  return page;
}

const lines = createInterface({ input: process.stdin });
const line = once(lines, 'line');
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [`--host-resolver-rules=MAP ${host} 127.0.0.1`]
});
const page = await open(browser);
const [args] = await line;
print(await page.evaluate((args) => program.run(...args), JSON.parse(args)));
await browser.close();
process.exit(0);
