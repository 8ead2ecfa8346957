import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { CollectiveError, ERROR_CODES, type ErrorCode } from '@collective/base/errors';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { errnoOf, fromFailure, fromServiceError, statusOf, toFailure, toServiceError } from './grpc-status.ts';

const codes = Object.keys(ERROR_CODES) as ErrorCode[];

test('every code of the catalogue has a gRPC status and an errno that exist', () => {
  for (const code of codes) {
    assert.ok(Object.hasOwn(status, ERROR_CODES[code].grpc), `${code}: ${ERROR_CODES[code].grpc}`);
    assert.ok(Object.hasOwn(constants.errno, ERROR_CODES[code].errno), `${code}: ${ERROR_CODES[code].errno}`);
    assert.notEqual(statusOf(code), status.OK);
  }
  assert.equal(errnoOf('not_found'), constants.errno.ENOENT);
  assert.equal(errnoOf('quota_exceeded'), constants.errno.EDQUOT);
});

test('every code survives the way through a call, with message and details', () => {
  for (const code of codes) {
    const sent = new CollectiveError(code, `Do it to 'x' – ${code}`, {
      details: { node: 'node-1', bytes: 7 },
      cause: new Error('a secret path'),
    });
    const wire = toServiceError(sent, 'Answer');
    assert.equal(wire.code, statusOf(code));
    assert.ok(!JSON.stringify(wire.metadata.toJSON()).includes('secret'), 'causes stay where they arose');
    const received = fromServiceError(wire, 'Call it');
    assert.equal(received.code, code);
    assert.equal(received.message, sent.message);
    assert.deepEqual(received.details, { node: 'node-1', bytes: '7' });
  }
});

test('a failure of a newer version keeps its text', () => {
  const error = fromFailure({ code: 'moon_phase', message: 'Wait for the moon', details: {} });
  assert.equal(error.code, 'internal');
  assert.equal(error.message, 'Wait for the moon [moon_phase]');
});

test('what is no error of ours is internal, and bounded on the wire', () => {
  const failure = toFailure(new TypeError('x is undefined'), 'Answer Admin/GetStatus');
  assert.deepEqual(failure, { code: 'internal', message: 'Answer Admin/GetStatus', details: {} });
  const long = toFailure(new CollectiveError('not_found', 'n'.repeat(50_000)), 'Answer');
  assert.equal(long.message.length, 2_000);
});

const foreign: { code: status; becomes: ErrorCode }[] = [
  { code: status.UNAVAILABLE, becomes: 'unavailable' },
  { code: status.CANCELLED, becomes: 'interrupted' },
  { code: status.DEADLINE_EXCEEDED, becomes: 'deadline_exceeded' },
  { code: status.RESOURCE_EXHAUSTED, becomes: 'overloaded' },
  { code: status.UNAUTHENTICATED, becomes: 'unauthenticated' },
  { code: status.UNIMPLEMENTED, becomes: 'unsupported' },
  { code: status.UNKNOWN, becomes: 'internal' },
];

for (const { code, becomes } of foreign) {
  test(`a status ${status[code]} that gRPC itself made becomes ${becomes}`, () => {
    const error: ServiceError = Object.assign(new Error('14: no'), { code, details: 'no', metadata: new Metadata() });
    const received = fromServiceError(error, 'Call it');
    assert.equal(received.code, becomes);
    assert.equal(received.message, 'Call it: no');
    assert.equal(received.cause, error);
  });
}

test('a failure that cannot be read is internal, not a crash', () => {
  const metadata = new Metadata();
  metadata.set('collective-failure-bin', Buffer.from([0x0a, 0xff]));
  const error: ServiceError = Object.assign(new Error('x'), { code: status.NOT_FOUND, details: 'x', metadata });
  assert.equal(fromServiceError(error, 'Call it').code, 'internal');
});
