// docs/reference/errors.md, made from the catalogue itself: the texts that the program prints and the page that a person
// looks up cannot differ.

import { ERROR_CODES } from '@collective/base/errors';
import { EXIT_CODES } from '@collective/cli/output/errors';

export const ERRORS_PAGE = 'docs/reference/errors.md';

export function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).sort(([a], [b]) => (a < b ? -1 : 1));
  return `# Errors

Made by \`npm run generate\` from \`base/src/errors/codes.ts\`; do not edit it here.

Every failure has a code that does not change between versions; texts may improve. The command line prints what was being
done, the code in brackets, the nearest cause and what to do; \`-v\` shows all causes, and with \`-o json\` the error is one
JSON object on standard error. The SDK throws a \`CollectiveError\` with \`code\`, \`details\` and \`cause\`.

## Exit codes of the command line

| exit | meaning |
| --- | --- |
${EXIT_CODES.map(({ exit, meaning }) => `| ${exit} | ${meaning} |`).join('\n')}

## Codes

| code | what happened | what to do | errno | gRPC | exit |
| --- | --- | --- | --- | --- | --- |
${rows.map(([code, { meaning, todo, errno, grpc, exit }]) => `| \`${code}\` | ${cell(meaning)} | ${cell(todo)} | ${errno} | ${grpc} | ${exit} |`).join('\n')}
`;
}

/** A bar would end the cell. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
