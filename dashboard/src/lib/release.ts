/** Whether the server has another build of this page than the one that runs: a wall screen stays open for months,
 * and the files that an old page would load later are gone after an upgrade. */

const SCRIPT = /\bsrc="[^"]*\/(index-[\w-]+\.js)"/;

/** The name of the script that a page's HTML starts, "" if it starts none of ours (the dashboard is not built). */
export function scriptOf(html: string): string {
  return SCRIPT.exec(html)?.[1] ?? '';
}

/** Whether `html`, the page as the server has it now, starts another script than `running` (an address). */
export function isAnother(html: string, running: string): boolean {
  const name = scriptOf(html);
  return name !== '' && !running.endsWith(`/${name}`);
}
