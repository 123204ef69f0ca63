"""The smallest Django projects that send mail under each neighbour; the tests run them in processes of their own."""
