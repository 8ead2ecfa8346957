/** `collective doctor`: examines a member end to end and says what to do for each finding. */
import type { Command } from 'commander';
import { examine, type Finding } from '../doctor/examine.ts';
import { gatherFacts } from '../doctor/gather.ts';
import { ExitWith } from '../exit-with.ts';
import { withAdmin } from '../member-session.ts';
import { counted } from '../output/counted.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { type Shell, writeOut } from '../shell.ts';
import { verb } from '../verb.ts';

const EXIT_PROBLEM = 1;
const SIGNS = { ok: 'ok', warning: 'WARNING', problem: 'PROBLEM' } as const;

const VIEW: RowsView<Finding> = { columns: [], name: ({ level, about }) => `${level} ${about}` };

export function doctorCommand(shell: Shell): Command {
  return verb('doctor', {
    summary: 'examine the member end to end: clocks, certificates, disks, reachability, versions',
    description: 'Each finding says what to do. Exit code 1 if there is a problem, 0 with warnings only.',
    examples: [
      { line: 'collective doctor', says: 'what is not well comes first' },
      { line: 'collective doctor -o json', says: 'for programs' },
    ],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, context, globals, signal }) => {
      const findings = examine(await gatherFacts({ clock: shell.clock, context, admin, signal })).sort(worstFirst);
      if (globals.output === 'table' || globals.output === 'wide') await writeOut(shell.stdout, reportOf(findings));
      else await printRows(shell, globals.output, findings, VIEW);
      if (findings.some(({ level }) => level === 'problem')) throw new ExitWith(EXIT_PROBLEM);
    });
  });
}

const RANK = { problem: 0, warning: 1, ok: 2 } as const;

function worstFirst(a: Finding, b: Finding): number {
  return RANK[a.level] - RANK[b.level];
}

function reportOf(findings: readonly Finding[]): string {
  const width = Math.max(...Object.values(SIGNS).map((sign) => sign.length));
  const lines = findings.map(({ level, about, says, todo }) => {
    const line = `${SIGNS[level].padEnd(width)}  ${about}: ${says}\n`;
    return todo === undefined ? line : `${line}${' '.repeat(width)}    ${todo}\n`;
  });
  const count = (level: Finding['level']): number => findings.filter((finding) => finding.level === level).length;
  const [problems, warnings] = [count('problem'), count('warning')];
  const closing =
    problems + warnings === 0
      ? 'All is well.\n'
      : `${counted(problems, 'problem')}, ${counted(warnings, 'warning')}.\n`;
  return `${lines.join('')}\n${closing}`;
}
