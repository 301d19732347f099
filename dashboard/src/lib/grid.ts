/** The columns of the grid for a type: the common ones around the type's own. */

import { columnsOf, factsOf, isNumeric, unitOf } from './columns';

export type CellKind =
  'health' | 'name' | 'type' | 'text' | 'value' | 'meter' | 'confidence' | 'freshness' | 'age' | 'reason';

export interface GridColumn {
  field: string;
  title: string;
  kind: CellKind;
  /** Least width in rem, and share of the rest. */
  min: number;
  grow: number;
  num: boolean;
  unit: string;
  hint: string;
}

function column(
  field: string,
  title: string,
  kind: CellKind,
  min: number,
  grow: number,
  more: Partial<GridColumn> = {},
): GridColumn {
  return {
    field,
    title,
    kind,
    min,
    grow,
    num: false,
    unit: '',
    hint: `Sort by ${title.toLowerCase()}`,
    ...more,
  };
}

/** `type` "" is all types: then the reason takes the place of the fields. */
export function columnsFor(type: string, withScope: boolean): GridColumn[] {
  const own =
    type === ''
      ? [column('health_reasons', 'Why', 'reason', 16, 4)]
      : columnsOf(type).map(({ field, title, width, bar }) =>
          column(field, title, bar ? 'meter' : 'value', width * 0.62, width / 10, {
            num: !bar && isNumeric(type, field),
            unit: unitOf(type, field),
            hint: factsOf(type, field)?.doc ?? title,
          }),
        );
  return [
    column('health_state', 'Health', 'health', 6.6, 0.2),
    column('entity_id', 'Name', 'name', 11, 2.4),
    ...(type === '' ? [column('entity_type', 'Type', 'type', 7, 0.8)] : []),
    ...(withScope ? [column('scope', 'Scope', 'text', 5, 0.7)] : []),
    ...own,
    column('confidence_score', 'Confidence', 'confidence', 6.4, 0.5),
    column('freshness', 'Freshness', 'freshness', 5, 0.2),
    column('observed_at', 'Seen', 'age', 3.6, 0.2, { num: true, hint: 'Age of the newest observation' }),
  ];
}
