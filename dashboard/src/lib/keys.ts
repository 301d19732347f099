/** The keyboard: which of the page's commands a key press means, if any. */

/** Whether a key press belongs to what has the focus (a text field, a menu) and not to the page. */
export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
  );
}

/** For the list that `?` shows: the keys, and what they do. */
export const SHORTCUTS: [string[], string][] = [
  [['/'], 'search'],
  [['j', 'k', '↓', '↑'], 'next and previous row'],
  [['Home', 'End', 'PgUp', 'PgDn'], 'jump through a table'],
  [['Enter'], 'open the row'],
  [['r'], 'put held rows in order'],
  [['Esc'], 'leave the search, close, go back'],
  [['g', 'o'], 'overview'],
  [['g', 'e'], 'entities'],
  [['g', 's'], 'sources'],
  [['g', 'n'], 'nodes'],
  [['g', 'r'], 'recommendations'],
  [['t'], 'light or dark'],
  [['?'], 'this list'],
];
