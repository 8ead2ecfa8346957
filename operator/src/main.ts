/** Where `collective-operator` begins: flags, and a process that runs until it is told to end. */
import { CollectiveError, errorChain } from '@collective/base/errors';
import { serve } from '@collective/base/lifecycle';
import { createLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { CommanderError } from 'commander';
import { type OperatorOptions, operatorCommand } from './operator-options.ts';
import { startOperator, version } from './operator-process.ts';

/** A reconcile under way has 10 s, then the lease is given back. */
const STOP_WITHIN_MS = 20_000;
const EXIT_USAGE = 2;

async function run(options: OperatorOptions): Promise<void> {
  const log = createLog({ program: 'collective-operator', level: options.logLevel });
  const clock = new SystemClock();
  process.exitCode = await serve({
    log,
    clock,
    stopWithinMs: STOP_WITHIN_MS,
    start: async () => await startOperator(options, log),
  });
}

try {
  await operatorCommand(version, run).exitOverride().parseAsync();
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    process.stderr.write(`${errorChain(thrown).join(': ')}\n`);
    process.exitCode = thrown instanceof CollectiveError && thrown.code === 'config_invalid' ? EXIT_USAGE : 1;
  }
}
