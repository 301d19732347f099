/** The sheet's colours, for what is drawn on a canvas. Read again when the theme changes. */

export interface Palette {
  ink: string;
  muted: string;
  line: string;
  panel: string;
  accent: string;
  meter: string;
  font: string;
  health: Record<string, string>;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: of('ink'),
    muted: of('ink-3'),
    line: of('line'),
    panel: of('panel'),
    accent: of('accent'),
    meter: of('meter'),
    font: of('font'),
    health: {
      critical: of('critical-fill'),
      degraded: of('degraded-fill'),
      warning: of('warning-fill'),
      unknown: of('unknown-fill'),
      healthy: of('healthy-fill'),
    },
  };
}
