// Pre-compresses what `vite build` made, so that the server never has to, and
// holds the first load to its budget: a page that grows past it fails the build.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const dist = new URL('../dist/', import.meta.url).pathname;
const INITIAL_JS_GZIP_BUDGET = 180 * 1024;
const TOTAL_JS_GZIP_BUDGET = 420 * 1024;
const COMPRESSIBLE = /\.(js|css|html|svg|json)$/;

function* filesUnder(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* filesUnder(path);
    else yield path;
  }
}

const gzipSizes = new Map();
for (const path of [...filesUnder(dist)]) {
  if (!COMPRESSIBLE.test(path)) continue;
  const content = readFileSync(path);
  const gzip = gzipSync(content, { level: 9 });
  const brotli = brotliCompressSync(content, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length },
  });
  writeFileSync(`${path}.gz`, gzip);
  writeFileSync(`${path}.br`, brotli);
  gzipSizes.set(relative(dist, path), { raw: content.length, gzip: gzip.length, brotli: brotli.length });
}

// What the browser fetches before the first page is up: the scripts that
// index.html names, and what those import without `import()`.
const html = readFileSync(join(dist, 'index.html'), 'utf8');
const initial = new Set([...html.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)].map((match) => match[1]));
for (const file of initial) {
  const code = readFileSync(join(dist, file), 'utf8');
  for (const match of code.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) initial.add(`assets/${match[1]}`);
}

const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} kB`;
const sum = (names, measure) => names.reduce((total, name) => total + gzipSizes.get(name)[measure], 0);
const scripts = [...gzipSizes.keys()].filter((name) => name.endsWith('.js'));
for (const name of scripts.toSorted((a, b) => gzipSizes.get(b).gzip - gzipSizes.get(a).gzip)) {
  const size = gzipSizes.get(name);
  console.log(`${initial.has(name) ? '*' : ' '} ${name.padEnd(44)} ${kilobytes(size.gzip).padStart(10)} gzip ${kilobytes(size.brotli).padStart(10)} br`);
}
const initialGzip = sum([...initial], 'gzip');
const totalGzip = sum(scripts, 'gzip');
console.log(`first load (*): ${kilobytes(initialGzip)} gzip, ${kilobytes(sum([...initial], 'brotli'))} br; budget ${kilobytes(INITIAL_JS_GZIP_BUDGET)} gzip`);
console.log(`all scripts:    ${kilobytes(totalGzip)} gzip; budget ${kilobytes(TOTAL_JS_GZIP_BUDGET)} gzip`);
if (initialGzip > INITIAL_JS_GZIP_BUDGET || totalGzip > TOTAL_JS_GZIP_BUDGET) {
  console.error('bundle budget exceeded: load the new part lazily, or drop a dependency');
  process.exit(1);
}
