"""What people look at: one run or model as tables and figures, and the page that holds them. No study in it."""
