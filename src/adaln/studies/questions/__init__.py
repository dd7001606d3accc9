"""The questions, one file each: tables and figures of the paper, what its reviewers asked, our own."""
