/** Light or dark: what the system prefers, unless this browser was told otherwise. */

export type ThemeChoice = 'system' | 'light' | 'dark';

const KEY = 'steersman.theme';
const systemDark = matchMedia('(prefers-color-scheme: dark)');

class Theme {
  choice = $state<ThemeChoice>(readChoice());
  #system = $state(systemDark.matches);
  readonly dark = $derived(this.choice === 'system' ? this.#system : this.choice === 'dark');

  constructor() {
    systemDark.addEventListener('change', (event) => {
      this.#system = event.matches;
      this.#show();
    });
    this.#show();
  }

  /** system → the other than what the system shows → back. */
  toggle(): void {
    this.choose(this.dark ? 'light' : 'dark');
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice === (this.#system ? 'dark' : 'light') ? 'system' : choice;
    try {
      localStorage.setItem(KEY, this.choice);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    this.#show();
  }

  #show(): void {
    document.documentElement.dataset.theme = this.dark ? 'dark' : 'light';
  }
}

function readChoice(): ThemeChoice {
  try {
    const saved = localStorage.getItem(KEY);
    return saved === 'light' || saved === 'dark' ? saved : 'system';
  } catch {
    return 'system';
  }
}

export const theme = new Theme();
