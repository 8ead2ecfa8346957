import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, isPassing } from './api-client.ts';

const refused = (status: number): ApiError => new ApiError('GET /', status, {});
const broken = (code: string): Error => Object.assign(new Error(code), { code });

test('what a conflict, a busy or a restarting server throws passes by itself; what is wrong does not', () => {
  const passing = [404, 409, 429, 500, 503, 504].map(refused);
  const cut = ['ABORT_ERR', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].map(broken);
  for (const thrown of [...passing, ...cut]) assert.ok(isPassing(thrown), String(thrown));
  const staying = [...[400, 401, 403, 422].map(refused), broken('ENOENT'), new Error('a defect')];
  for (const thrown of staying) assert.ok(!isPassing(thrown), String(thrown));
});
