import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type OperatorOptions, operatorCommand } from './operator-options.ts';

async function read(...flags: readonly string[]): Promise<OperatorOptions> {
  const { promise, resolve } = Promise.withResolvers<OperatorOptions>();
  const command = operatorCommand('0.0.0', async (options) => resolve(options));
  await command.parseAsync(['--image', 'collective:1', ...flags], { from: 'user' });
  return await promise;
}

test('how long a Lease lasts is a whole number of seconds within its bounds', async () => {
  assert.equal((await read()).leaseDurationSeconds, 15);
  assert.equal((await read('--lease-duration-seconds', '300')).leaseDurationSeconds, 300);
  for (const wrong of ['14', '301', '60s', '1e2', ''])
    await assert.rejects(read('--lease-duration-seconds', wrong), {
      code: 'config_invalid',
      message: /--lease-duration-seconds '.*': it is a whole number from 15 to 300/,
    });
});
