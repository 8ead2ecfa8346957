/** find's own spellings: `-name` would be read as `-n ame` by any other command. */
export function withLongSpellings(argv: readonly string[]): string[] {
  if (argv[0] !== 'find') return [...argv];
  return argv.map((argument) =>
    /^-(name|iname|path|type|size|empty|maxdepth|mindepth|print0)$/.test(argument) ? `-${argument}` : argument,
  );
}
