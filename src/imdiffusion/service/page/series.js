// series
