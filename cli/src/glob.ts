/** Shell patterns over a whole name: `*`, `?`, `[abc]`, `[!a-z]` and `\` before a letter that is meant as itself. */
export function globExpression(pattern: string, flags: '' | 'i' = ''): RegExp {
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char === '*') source += '.*';
    else if (char === '?') source += '.';
    else if (char === '\\' && i + 1 < pattern.length) source += literal(pattern.charAt(++i));
    else if (char === '[') {
      // A ']' right after the opening stands for itself.
      const end = pattern.indexOf(']', i + (pattern.charAt(i + 1) === '!' ? 3 : 2));
      if (end < 0) source += '\\[';
      else {
        const inside = pattern.slice(i + 1, end);
        const negated = inside.startsWith('!') || inside.startsWith('^');
        const letters = (negated ? inside.slice(1) : inside).replace(/[\\\][^]/g, '\\$&');
        source += `[${negated ? '^' : ''}${letters}]`;
        i = end;
      }
    } else source += literal(char);
  }
  return new RegExp(`^${source}$`, `s${flags}`);
}

function literal(char: string): string {
  return char.replace(/[.*+?^${}()|[\]\\/]/, '\\$&');
}
