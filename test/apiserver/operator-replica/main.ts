/**
 * `collective-operator` as it is started in a cluster, with members where a test runs them: `main.ts ADDRESSES FLAGS...`, where ADDRESSES
 * is a file of JSON that says where the addresses of the cluster lead to.
 */
import { readFileSync } from 'node:fs';
import { serve } from '@collective/base/lifecycle';
import { createLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { GrpcCoordinatorAccess } from '@collective/operator/coordinator/grpc-coordinator-access';
import { operatorCommand } from '@collective/operator/operator-options';
import { startOperator, version } from '@collective/operator/operator-process';

const [, , file = '', ...flags] = process.argv;
const addresses = JSON.parse(readFileSync(file, 'utf8')) as Readonly<Record<string, string>>;
const resolve = (address: string): string => addresses[address] ?? address;

await operatorCommand(version, async (options) => {
  process.exitCode = await serve({
    log: createLog({ program: 'collective-operator', level: options.logLevel }),
    clock: new SystemClock(),
    stopWithinMs: 20_000,
    start: async () =>
      await startOperator(
        options,
        createLog({ program: 'collective-operator', level: options.logLevel }),
        new GrpcCoordinatorAccess({ resolve }),
      ),
  });
}).parseAsync(flags, { from: 'user' });
