import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TrustDomain } from '@collective/base/ids';
import { formatInvitation, INVITATION_CHARACTERS_MAX, type Invitation, parseInvitation } from './invitation.ts';

const SECRET = `col1-${'s'.repeat(43)}`;
const INVITATION: Invitation = {
  trustDomain: 'alice.home' as TrustDomain,
  coordinator: '127.0.0.1:7420',
  role: 'user',
  name: 'anna.m',
  token: SECRET,
  bundlePem: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
};
const TEXT = formatInvitation(INVITATION);

test('T3: an invitation says whose member, for whom, with which token and which roots, and is read as it was written', () => {
  assert.deepEqual(parseInvitation(TEXT, '-'), INVITATION);
  const { coordinator: _, ...elsewhere } = INVITATION;
  assert.deepEqual(parseInvitation(formatInvitation({ ...elsewhere, role: 'node', name: 'n-1' }), '-'), {
    ...elsewhere,
    role: 'node',
    name: 'n-1',
  });
  assert.match(
    TEXT,
    /^collective-invitation: 1\nmember: alice\.home\ncoordinator: 127\.0\.0\.1:7420\nfor: user\/anna\.m\n/,
  );
});

test('an invitation that came through a mail program of another system is read', () => {
  assert.deepEqual(parseInvitation(TEXT.replaceAll('\n', '\r\n'), '-').token, SECRET);
});

const broken: { name: string; text: string; code?: string; says: RegExp }[] = [
  { name: 'nothing', text: '', says: /is none/ },
  { name: 'a token alone', text: SECRET, says: /is none/ },
  { name: 'certificates alone', text: INVITATION.bundlePem, says: /is none/ },
  {
    name: 'one without its certificates',
    text: TEXT.slice(0, TEXT.indexOf('-----')),
    says: /below stand certificates/,
  },
  { name: 'one without its token', text: TEXT.replace(/^token.*\n/m, ''), says: /'token: \.\.\.' is missing/ },
  { name: 'one for a coordinator', text: TEXT.replace('user/', 'coordinator/'), says: /for none of user\/NAME/ },
  { name: 'one for nobody', text: TEXT.replace('user/anna.m', 'user/'), says: /for none of/ },
  { name: 'one of a later format', text: TEXT.replace(': 1', ': 2'), code: 'version_too_new', says: /newer program/ },
  { name: 'one without end', text: TEXT + 'x'.repeat(INVITATION_CHARACTERS_MAX), says: /more than/ },
];

for (const { name, text, code = 'token_invalid', says } of broken) {
  test(`what is no invitation is refused without repeating its secret: ${name}`, () => {
    assert.throws(
      () => parseInvitation(text, 'anna.txt'),
      (thrown) => {
        assert.ok(thrown instanceof Error);
        assert.equal((thrown as Error & { code?: string }).code, code);
        assert.match(thrown.message, says);
        assert.match(thrown.message, /anna\.txt/);
        assert.ok(!thrown.message.includes(SECRET));
        return true;
      },
    );
  });
}
