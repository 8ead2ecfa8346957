/** `collective users`: who is let in besides storage nodes, and what they may do (T3a). */
import { CollectiveError } from '@collective/base/errors';
import type { Identity, SubjectName } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { noun, verb } from '../verb.ts';

const VIEW: RowsView<Identity> = {
  columns: [
    { header: 'NAME', cell: nameOf },
    { header: 'ADMIN', cell: ({ admin }) => (admin ? 'yes' : 'no') },
    { header: 'WORKS AS', cell: ({ trusted, uid }) => (trusted ? 'what it says (trusted)' : `uid ${uid}`) },
    {
      header: 'REALMS',
      cell: ({ realms }) =>
        realms.map(({ path, readOnly }) => (readOnly ? `${path} (read only)` : path)).join(', ') || '<none>',
    },
    { header: 'SUBJECT', cell: ({ subject }) => subject, wide: true },
  ],
  name: nameOf,
};

export function usersCommand(shell: Shell): Command {
  return noun(
    'users',
    'list who is let in, and take that away',
    [listVerb(shell), removeVerb(shell)],
    [
      { line: 'collective users list', says: 'people and programs, and what they may do' },
      { line: 'collective users remove client/old-laptop', says: 'its certificate is refused from then on' },
      { line: 'collective token create --for user/anna', says: 'let somebody in' },
    ],
  );
}

function listVerb(shell: Shell): Command {
  return verb('list', {
    summary: 'list users and clients, and what they may do',
    examples: [
      { line: 'collective users list', says: 'rights and realms' },
      { line: 'collective users list -o name', says: 'names only' },
    ],
  })
    .alias('ls')
    .action(async (_options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        await printRows(shell, globals.output, await admin.subjects({ signal }), VIEW);
      });
    });
}

function removeVerb(shell: Shell): Command {
  return verb('remove', {
    summary: 'let nobody in under a name any more',
    description:
      'Its sessions end and its certificate is refused from then on, also one that was copied. Its files stay as they are. A token\nlets the name in again. Whoever stands in spec.users of a Member in Kubernetes is removed there.',
    examples: [
      { line: 'collective users remove user/ben', says: 'ben has left' },
      { line: 'collective users remove client/old-laptop', says: 'it was stolen' },
    ],
  })
    .argument('<role/name>', 'user/NAME or client/NAME, as collective users list shows it')
    .action(async (text: string, _options: unknown, command: Command) => {
      const subject = parseSubjectName(text);
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const known = (await admin.subjects({ signal })).find((each) => nameOf(each) === text);
        if (known === undefined)
          throw new CollectiveError('not_found', `Remove ${text}: this member lets in nobody of that name`);
        const { sessions } = await admin.removeSubject(subject, { signal });
        await printOne(shell, globals.output, known, VIEW);
        if (!globals.quiet) shell.stderr.write(`${text} is let in no more; ${sessions} of its sessions were ended\n`);
      });
    });
}

function nameOf({ role, name }: Identity): string {
  return `${role}/${name}`;
}

function parseSubjectName(text: string): SubjectName {
  const [role, name, ...rest] = text.split('/');
  if ((role !== 'user' && role !== 'client') || name === undefined || name === '' || rest.length > 0)
    throw new CollectiveError('invalid_argument', `Remove '${text}': it is user/NAME or client/NAME`);
  return { role, name };
}
