/**
 * Runs seeds of the simulation from the command line:
 *
 *   npm run sim -- --seed 4127 --steps 500 --trace      one seed, all lines
 *   npm run sim -- --seeds 1..300                       many, until one fails
 *   npm run sim -- --until-failure                      from a random seed on
 *   npm run sim -- --disks-die --seeds 1..20            disks die and rot, nodes stay away
 *   npm run sim -- --break ignore-recall --seeds 1..50  a defect on purpose: which seed finds it?
 */
import { parseArgs } from 'node:util';
import { BREAKS, isBreak } from './breaks.ts';
import { type SimulationResult, simulate } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    steps: { type: 'string', default: '300' },
    break: { type: 'string' },
    'until-failure': { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
    'disks-die': { type: 'boolean', default: false },
  },
});

const broken = values.break;
if (broken !== undefined && !isBreak(broken)) {
  const known = Object.entries(BREAKS).map(([name, what]) => `  ${name.padEnd(16)} ${what}`);
  console.error(`There is no break '${broken}'. Known:\n${known.join('\n')}`);
  process.exit(2);
}

let failures = 0;
for (const seed of seedsToRun()) {
  const beganMs = performance.now();
  const onLine = values.trace ? (line: string): void => console.log(line) : undefined;
  const result = await simulate({
    seed,
    steps: Number(values.steps),
    break: broken,
    disksDie: values['disks-die'],
    onLine,
  });
  report(result, performance.now() - beganMs);
  if (result.failure !== undefined) {
    failures++;
    if (!values['keep-going']) break;
  }
}
process.exitCode = failures > 0 ? 1 : 0;

function* seedsToRun(): Generator<number> {
  if (values.seed !== undefined) {
    yield Number(values.seed);
    return;
  }
  const [from, to] = (values.seeds ?? '1..20').split('..').map(Number);
  if (values['until-failure']) {
    const first = from === 1 ? Math.floor(Math.random() * 2 ** 32) : (from ?? 1);
    for (let seed = first; ; seed++) yield seed;
  }
  for (let seed = from ?? 1; seed <= (to ?? from ?? 1); seed++) yield seed;
}

function report(result: SimulationResult, tookMs: number): void {
  const { seed, steps, virtualMs, faults, hash, failure, undecided, trace } = result;
  const facts = `${steps} actions, ${faults} faults, ${(virtualMs / 1000).toFixed(1)} s of virtual time in ${Math.round(tookMs)} ms, trace ${hash}`;
  if (failure === undefined) {
    console.log(`seed ${seed}: ${undecided ? 'undecided' : 'ok'}, ${facts}`);
    return;
  }
  if (!values.trace) for (const line of trace.slice(-80)) console.log(line);
  console.log(`seed ${seed}: FAILED, ${facts}\n${failure.stack ?? failure.message}`);
  for (let cause = failure.cause; cause instanceof Error; cause = cause.cause) console.log(`caused by ${cause.stack}`);
  console.log(
    `again: npm run sim -- --seed ${seed} --steps ${values.steps}${broken === undefined ? '' : ` --break ${broken}`}${values['disks-die'] ? ' --disks-die' : ''} --trace`,
  );
}
