// What a check says about the tree: one place and one sentence that tells what to do there.

export type SourceFile = { readonly path: string; readonly text: string };

export type Finding = { readonly path: string; readonly line: number; readonly message: string };

export function formatFinding({ path, line, message }: Finding): string {
  return `${path}:${line}: ${message}`;
}

/** Number, from 1, of the line on which the character at `offset` stands. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}
