/** The parts of ECharts that are used; the bundler leaves out the rest. Loaded when a chart is first drawn. */

import { BarChart, LineChart } from 'echarts/charts';
import { AriaComponent, GridComponent, MarkAreaComponent, TooltipComponent } from 'echarts/components';
import { init, use, type ComposeOption, type ECharts } from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';
import type { BarSeriesOption, LineSeriesOption } from 'echarts/charts';
import type {
  AriaComponentOption,
  GridComponentOption,
  MarkAreaComponentOption,
  TooltipComponentOption,
} from 'echarts/components';

use([BarChart, LineChart, GridComponent, TooltipComponent, MarkAreaComponent, AriaComponent, CanvasRenderer]);

export type ChartOption = ComposeOption<
  | BarSeriesOption
  | LineSeriesOption
  | GridComponentOption
  | TooltipComponentOption
  | MarkAreaComponentOption
  | AriaComponentOption
>;

/** A chart in an element. The tooltip must be drawn on the canvas (`renderMode: 'richText'`): the HTML one
 * carries inline styles, which the content security policy refuses. */
export function draw(element: HTMLElement): ECharts {
  return init(element, null, { renderer: 'canvas' });
}
