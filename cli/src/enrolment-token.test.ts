import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNamedToken, parseNamedToken, requireCertificate, trustDomainOfBundle } from './enrolment-token.ts';

test('a token carries the name that it was made for', () => {
  const token = formatNamedToken('user', 'anna.m', 'col1-abc_-9');
  assert.equal(token, 'user/anna.m:col1-abc_-9');
  assert.deepEqual(parseNamedToken(` ${token}\n`), { secret: 'col1-abc_-9', role: 'user', name: 'anna.m' });
});

test('a bare secret is taken as it is, a name of another kind is refused', () => {
  assert.deepEqual(parseNamedToken('col1-abc'), { secret: 'col1-abc' });
  assert.throws(() => parseNamedToken('coordinator/x:col1-abc'), { code: 'token_invalid' });
});

test('a file that holds no certificate is named', () => {
  assert.throws(() => requireCertificate('no certificate', '--ca-cert hostname'), {
    code: 'invalid_argument',
    message: /--ca-cert hostname: it holds no certificate/,
  });
});

test('a bundle that is none names no trust domain', () => {
  assert.equal(trustDomainOfBundle('no certificate'), undefined);
});
