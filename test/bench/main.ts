/**
 * Benchmarks by name, one after the other; without a name all of them that need nothing but this tree. Each prints a table and, at
 * the end, a line of JSON.
 *
 *   npm run bench                 all
 *   npm run bench -- metadata     one
 */
import { cpus } from 'node:os';
import { BACKGROUND_PARTS, backgroundBench } from './background.bench.ts';
import { directoryBench } from './directory.bench.ts';
import { Figures } from './figures.ts';
import { filesBench } from './files.bench.ts';
import { growthBench } from './growth.bench.ts';
import { metadataBench } from './metadata.bench.ts';
import { operatorBench } from './operator.bench.ts';
import { operatorPlansBench } from './operator-plans.bench.ts';
import { repairBench } from './repair.bench.ts';
import { scrubBench } from './scrub.bench.ts';

const SUITES: Readonly<Record<string, (figures: Figures) => Promise<void>>> = {
  metadata: metadataBench,
  files: filesBench,
  scrub: scrubBench,
  directory: directoryBench,
  growth: growthBench,
  background: backgroundBench,
  ...BACKGROUND_PARTS,
  repair: repairBench,
  'operator-plans': operatorPlansBench,
  operator: operatorBench,
};

/** Needs the programs of the lab (`hack/node hack/kind/build.ts`), or is a part of another: only when it is named. */
const ONLY_NAMED: ReadonlySet<string> = new Set(['operator', ...Object.keys(BACKGROUND_PARTS)]);

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => SUITES[name] === undefined);
if (unknown !== undefined) {
  console.error(`Unknown benchmark '${unknown}': there are ${Object.keys(SUITES).join(', ')}`);
  process.exitCode = 2;
} else {
  for (const [name, suite] of Object.entries(SUITES)) {
    if (wanted.length > 0 ? !wanted.includes(name) : ONLY_NAMED.has(name)) continue;
    console.log(`\n${name}: ${cpus().length} cores, Node ${process.version}`);
    const figures = new Figures();
    await suite(figures);
    console.log(figures.toJson(name));
  }
}
